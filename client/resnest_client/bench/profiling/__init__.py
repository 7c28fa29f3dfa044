"""`resnest bench --profile`: profiles one image by stage, in this process."""
