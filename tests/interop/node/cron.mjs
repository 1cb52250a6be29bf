// When a cron expression is due, as a package of BullMQ works it out: node cron.mjs <package> <questions as JSON>.
import { createRequire } from "node:module";

const [packageName, questions] = process.argv.slice(2);
const here = createRequire(import.meta.url);
const parser = createRequire(here.resolve(packageName))("cron-parser");
const parse = parser.parseExpression ?? ((...args) => parser.CronExpressionParser.parse(...args));

const answers = JSON.parse(questions).map(({ expression, tz, after, times }) => {
  const due = parse(expression, { tz, currentDate: new Date(after) });
  return Array.from({ length: times }, () => due.next().getTime());
});
console.log(JSON.stringify(answers));
