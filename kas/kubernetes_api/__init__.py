"""DOOR for kubectl: HTTP/1.1 over TLS, credentials, relay into a link, and the one table of replies.

A request passes through here file by file: door.py accepts, connection.py reads it (with kastunnel.http) and keeps its time limits,
paths.py and credentials.py find the agent, relay.py asks the gate, opens the request on a link and writes the answer as it comes;
replies.py says what is answered instead when something is refused or fails. On that path no task, no queue and no await: only a
token that is not known yet, or an agent without a link, costs a task.
"""
