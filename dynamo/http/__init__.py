"""The REST API: Riak KV's HTTP dialect on aiohttp."""
