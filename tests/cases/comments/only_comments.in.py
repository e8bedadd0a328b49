#!/usr/bin/python
# nothing here

    # but this