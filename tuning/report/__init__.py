"""The report of a study as one page: what it says, how it is drawn, how it is put together."""
