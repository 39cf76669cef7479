"""The tap of exec, attach and port-forward: passes whole frames on, so that a failure can be said in the protocol's own words.

A broken connection alone tells kubectl too little: over SPDY (1.29 and older) it exits 0 without a message, over WebSocket it says
"close 1006". So kas ends the output and writes a Status into the error stream, as the API server does for a failure of its own, and
the job fails with a sentence; of a port-forward each open connection is told in its own. Nothing else is ever changed: what the tap
does not understand passes as it came, and fails as before.
No I/O in here.
"""
