from bench.ann.run import main

main()
