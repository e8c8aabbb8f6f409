"""LXMERT, from pixels to answers and why."""
