"""Why a score: what a model depends on, overall and for one request."""
