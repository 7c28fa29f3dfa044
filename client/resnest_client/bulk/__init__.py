"""Detection in millions of images on Ray Data: `resnest detect --ray`, and `detect_dataset`.

Ray and pyarrow are imported by the functions that use them.
"""

from resnest_client.bulk.run import BulkResult, detect_dataset

__all__ = ["BulkResult", "detect_dataset"]
