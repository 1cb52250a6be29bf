// What a Node worker does with a job, by the job's name; the Python side has the same tasks.
import { setTimeout as sleep } from "node:timers/promises";

export function handler(say, UnrecoverableError) {
  return async (job) => {
    say({ notice: "ran", queue: job.queueName, id: job.id, name: job.name, starts: job.attemptsStarted });
    switch (job.name) {
      case "double":
        return { doubled: job.data.n * 2 };
      case "nap":
        await sleep(job.data.ms);
        return "rested";
      case "flaky":
        if (job.attemptsMade < job.data.failures) throw new Error(`attempt ${job.attemptsMade + 1} failed`);
        return job.attemptsMade + 1;
      case "hopeless":
        throw new UnrecoverableError("never works");
      case "talkative":
        await job.updateProgress(10);
        await job.log("first line");
        await job.updateProgress({ progress: 60, message: "more than half" });
        await job.log("second line");
        return null;
      case "collect":
        return await job.getChildrenValues();
      default:
        throw new Error(`no handler for ${job.name}`);
    }
  };
}
