// A closed loop of pushes through github.com/sideshow/apns2, for comparison. Prints one line of JSON.
package main

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"flag"
	"fmt"
	"net/http"
	"os"
	"sort"
	"sync"
	"sync/atomic"
	"time"

	"github.com/sideshow/apns2"
	"github.com/sideshow/apns2/token"
	"golang.org/x/net/http2"
)

type answer struct {
	Accepted int64   `json:"accepted"`
	Seconds  float64 `json:"seconds"`
	P50us    int64   `json:"p50_us"`
	P99us    int64   `json:"p99_us"`
}

func main() {
	host := flag.String("host", "", "https://host:port")
	ca := flag.String("ca", "", "file of the authority")
	key := flag.String("key", "", "the .p8 file")
	keyID := flag.String("key-id", "", "its id")
	team := flag.String("team", "", "the team's id")
	topic := flag.String("topic", "com.example.app", "the topic")
	pushes := flag.Int64("pushes", 10000, "how many")
	inFlight := flag.Int("in-flight", 100, "how many at a time")
	flag.Parse()
	found, err := run(*host, *ca, *key, *keyID, *team, *topic, *pushes, *inFlight)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	if err := json.NewEncoder(os.Stdout).Encode(found); err != nil {
		os.Exit(1)
	}
}

func run(host, ca, key, keyID, team, topic string, pushes int64, inFlight int) (answer, error) {
	authority, err := os.ReadFile(ca)
	if err != nil {
		return answer{}, err
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(authority) {
		return answer{}, fmt.Errorf("%s holds no certificate", ca)
	}
	signing, err := token.AuthKeyFromFile(key)
	if err != nil {
		return answer{}, err
	}
	client := apns2.NewTokenClient(&token.Token{AuthKey: signing, KeyID: keyID, TeamID: team})
	client.Host = host
	client.HTTPClient = &http.Client{Transport: &http2.Transport{
		TLSClientConfig: &tls.Config{RootCAs: roots},
		// One connection, as for the others.
		StrictMaxConcurrentStreams: true,
	}}
	push := func(i int64) bool {
		response, err := client.Push(&apns2.Notification{
			DeviceToken: fmt.Sprintf("%064x", i%10000),
			Topic:       topic,
			PushType:    apns2.PushTypeAlert,
			Priority:    10,
			Payload: []byte(fmt.Sprintf(
				`{"aps":{"alert":{"title":"Order paid","body":"Your order %d is paid."}},"seq":"%d"}`, i, i)),
		})
		return err == nil && response.Sent()
	}
	// Alone, until the token was accepted.
	if !push(0) {
		return answer{}, fmt.Errorf("the first push was not accepted")
	}
	var next, accepted atomic.Int64
	times := make([][]int64, inFlight)
	var loops sync.WaitGroup
	begun := time.Now()
	for n := range inFlight {
		loops.Add(1)
		go func() {
			defer loops.Done()
			for {
				i := next.Add(1)
				if i > pushes {
					return
				}
				at := time.Now()
				if push(i) {
					accepted.Add(1)
				}
				times[n] = append(times[n], time.Since(at).Microseconds())
			}
		}()
	}
	loops.Wait()
	seconds := time.Since(begun).Seconds()
	var all []int64
	for _, some := range times {
		all = append(all, some...)
	}
	sort.Slice(all, func(a, b int) bool { return all[a] < all[b] })
	return answer{
		Accepted: accepted.Load(),
		Seconds:  seconds,
		P50us:    all[len(all)/2],
		P99us:    all[len(all)*99/100],
	}, nil
}
