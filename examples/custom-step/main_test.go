package main

func Example() {
	main()
	// Output:
	// success: {"price":"14.7 EUR"}
	// warning: null
	//   step 1 (go): country: no currency is known for it
	// success: null
}
