"""The server: it decides who may reach which cluster, and carries requests through the tunnels that agents opened."""
