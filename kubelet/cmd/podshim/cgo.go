package main

import "C" // compiles pause.c into the program
