#!/usr/bin/python
# -*- coding: cp1251 -*-
name = 'Привет'
