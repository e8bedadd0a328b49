#!/usr/bin/env python3
# -*- coding: utf-8 -*-
# Copyright of somebody

import os
# about f
# and more about it
def f():
    # at the start of the body
    x = 1
    # in the middle
    return x
    # at the end


# at the very end