"""The models that Triton's Python backend runs; a repository's `model.py` only names one of them.

The backend gives them `triton_python_backend_utils`, which exists nowhere else.
"""
