from bench.ann.run import main

# The libraries' processes import this module anew.
if __name__ == "__main__":
    main()
