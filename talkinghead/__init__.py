"""A RunPod Serverless worker that turns a picture and voices into a talking-head video."""

__version__ = "0.1.0"
