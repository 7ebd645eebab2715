"""What a reader gets: tables, the report, the gallery, comparisons, the paper's numbers beside ours."""
