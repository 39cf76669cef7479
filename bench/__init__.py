"""`make bench`: kas and agentk beside nginx, on the same upstream, in one run.

Read parts.py for what is started, measure.py for what is measured and how, report.py for what becomes of the figures.
Nothing in here is part of the product, and the product has no hooks for it.
"""
