"""Looking at what was found: recorded bags and results of the command line on a local web page (`ivlm view`)."""
