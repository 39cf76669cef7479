"""A real single-node Kubernetes on one machine without a container engine, for tests.

The API server, controllers, scheduler and kubelet are built from Kubernetes' own Go modules; etcd, containerd and runc are Debian's.
``python -m tests.kubernetes.testbed`` is its command. Several can run at once: each has its own folder, ports and bridge.
"""
