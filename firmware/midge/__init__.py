# What runs on a board. Import only what you use: this file stays empty of code.
