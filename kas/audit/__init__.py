"""The audit log: who did what to which cluster, as whom, and with what result. One record per request, off the hot path.

The event loop makes lines of records, some at a time; a thread of its own writes them. They are chained by an HMAC whose key lies
elsewhere, and signed heads go to the database, so that whoever can write the log cannot change it unseen.
"""
