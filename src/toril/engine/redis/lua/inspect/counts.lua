-- How many jobs are in each state.
-- KEYS[1] meta. ARGV[1..4] see lib/queue.
-- Answers {1 when paused, waiting, prioritized, delayed, waiting-children, active, completed, failed}.
-- include: queue

return {
  redis.call('HEXISTS', base .. 'meta', 'paused'),
  redis.call('LLEN', base .. 'wait') + redis.call('LLEN', base .. 'paused'),
  redis.call('ZCARD', base .. 'prioritized'),
  redis.call('ZCARD', base .. 'delayed'),
  redis.call('ZCARD', base .. 'waiting-children'),
  redis.call('LLEN', base .. 'active'),
  redis.call('ZCARD', base .. 'completed'),
  redis.call('ZCARD', base .. 'failed'),
}
