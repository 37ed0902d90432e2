"""The build of tables of your own as an Apache Beam pipeline: the same shards, byte for byte.

What a column means, how values get ids, and how rows become a shard is shared with the build on one
machine; Beam brings together the rows of a user, the rows of a shard, and values and their ids.
"""
