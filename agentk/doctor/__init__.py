"""`agentk doctor`: what stands between this agentk, its kas and its API server, found out hop by hop."""
