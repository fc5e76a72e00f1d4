"""Aggregation: from the updates of many clients to one."""
