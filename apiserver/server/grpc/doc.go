// Package grpc is the native door: bareboat.api.v1 over grpc-go's own transport. It translates between messages and the
// pipeline's requests and decides nothing.
//
// Objects are sent as the bytes that the store holds. A list's and a watch's messages are put together from shared frames by
// a codec that hands grpc-go slices instead of copies, so that an event is encoded once for all its watchers.
//
//	srv := grpc.NewServer(grpc.Config{Pipeline: p, Authenticator: auth, …})
//	go srv.Serve(listener) // of connections whose TLS handshake is done
package grpc
