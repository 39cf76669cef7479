"""In a job: the credential plugin of kubectl, which renews the job's token by presenting a fresh ID token.

kubectl runs it for every command, so it must answer within milliseconds: nothing here imports more than the standard library, and
what only a renewal needs is imported when there is one.
"""
