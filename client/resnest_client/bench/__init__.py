"""`resnest bench`: measures the speed of a detector, in this process or behind a server.

`photographs` reads the images before timing starts, `load` generates the load, and `meter` samples CPU time, memory and
GPU use. `runs` combines them into a `Run` of `results`; `report`, `plots` and `compare` present runs.
"""
