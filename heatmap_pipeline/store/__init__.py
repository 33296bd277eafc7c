"""Tables, locks and publication: the only place that speaks SQL."""
