"""`talkinghead replay`: saved workflows, replay bundles and requests, run in batches."""
