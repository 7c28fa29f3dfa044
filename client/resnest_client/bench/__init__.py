"""`resnest bench`: how fast a detector is, in this process or behind a server.

`photographs` are read before anything is timed, `load` asks for them, `measuring` looks at processors and memory
meanwhile, `runs` puts that together into one `Run` of `results`, and `report`, `plots` and `compare` show runs.
"""
