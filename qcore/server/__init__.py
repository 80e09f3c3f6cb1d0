"""The control protocol: the lab's façade over HTTP, server-sent events, OpenAPI, and the same as MCP tools.

A script or an agent steers a run under the bounds, the checks and the log that a person does; the author of what it
changes is `api:<its name>`. `endpoint` declares a route, `reads` and `actions` list them, `app` serves them, `service`
is the running server, `client` and `tools` call it.
"""
