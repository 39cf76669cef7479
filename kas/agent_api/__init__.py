"""DOOR for agentk (gRPC): authenticates the agent token and hands the stream to a link; it decides nothing else."""
