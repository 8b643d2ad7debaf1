"""The front door: wire formats, keys, limits, answers, metrics. The only place that knows HTTP."""
