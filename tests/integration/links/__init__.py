"""Links over real gRPC, between the parts of kas and agentk that hold them."""
