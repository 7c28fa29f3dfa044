"""`resnest bench --profile`: one image's time by stage, in this process."""
