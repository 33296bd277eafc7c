"""The chain of days: what follows what, what is stale or due, computing and committing, what to type. No Dagster."""
