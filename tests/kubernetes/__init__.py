"""The ring on the real Kubernetes: stock kubectl, kas and agentk as processes, a cluster built from Kubernetes' own modules."""
