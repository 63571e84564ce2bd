"""How a run is spread over processes: in step, or asynchronous workers on Ray."""
