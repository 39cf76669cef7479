"""DOOR for jobs over HTTPS.

``GET /kas/v1/kubeconfig`` with the job's token gives the kubeconfig of the job. ``POST /kas/v1/job-tokens`` with a project's secret gives a
job token, ``POST /kas/v1/token`` exchanges an ID token for one, ``POST /kas/v1/job-tokens/revoke`` ends it.
"""
