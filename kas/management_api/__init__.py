"""DOOR for jobs over HTTPS: ``GET /kas/v1/kubeconfig`` with the job's token gives the kubeconfig of the job."""
