"""Workers: processes in which plugins run, as their host starts, keeps and ends them."""
