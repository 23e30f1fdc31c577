"""The wire contract (PROTOCOL.md) without I/O: names, topics, JSON, requests, replies, registry entries."""
