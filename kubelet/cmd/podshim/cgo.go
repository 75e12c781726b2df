package main

import "C" // compiles pause.c and userns.c into the program
