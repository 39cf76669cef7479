"""HTTP/1.1 to the cluster's API server: kept-alive connections, upgrades, agentk's own credential, and the identity added last.

Sees one request at a time through kastunnel.link.handler; knows nothing of links, envelopes or kas.
"""
