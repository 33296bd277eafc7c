"""`python -m heatmap_pipeline` is the `heatmap` command."""

from heatmap_pipeline.cli import main

if __name__ == "__main__":
    main(prog_name="heatmap")
