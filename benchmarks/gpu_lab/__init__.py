"""Our graphs on a bare GPU machine: no network, no models. `pack` here, `run` there."""
