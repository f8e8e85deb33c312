"""What `gpu_report.py` runs on a GPU: every stage is a module with a process of its own."""
