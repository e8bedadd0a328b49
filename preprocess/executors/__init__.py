"""Where shards are prepared: every executor is a function (shards, repos, rules, ...) -> iterator of shards.

It calls shards.prepare_shard for each shard in some process that sees the same file system, and yields a
shard once its result file exists: that file is the mark of completion. If a process dies or hangs,
<key>.position beside the result says at which file; the executor puts a Finding for it in shard.failed and
gives the shard out again. What a run writes does not depend on the executor. Read local_pool.py first.
"""
