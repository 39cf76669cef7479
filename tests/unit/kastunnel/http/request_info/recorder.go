// Prints how k8s.io/apiserver classifies requests: one JSON array for each "METHOD target" line on standard input.
// recorded.jsonl was made with k8s.io/apiserver v0.34.4; run this in a module of its own that requires it.
package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"strings"

	"k8s.io/apimachinery/pkg/util/sets"
	"k8s.io/apiserver/pkg/endpoints/request"
	"k8s.io/klog/v2"
)

func main() {
	klog.LogToStderr(false)
	klog.SetOutput(io.Discard)
	factory := &request.RequestInfoFactory{
		APIPrefixes:          sets.NewString("api", "apis"),
		GrouplessAPIPrefixes: sets.NewString("api"),
	}
	verbs := sets.NewString("watch", "proxy")
	subresources := sets.NewString("attach", "exec", "proxy", "log", "portforward")
	lines := bufio.NewScanner(os.Stdin)
	for lines.Scan() {
		method, target, _ := strings.Cut(lines.Text(), " ")
		parsed, err := url.ParseRequestURI(target)
		if err != nil {
			fmt.Println("null")
			continue
		}
		info, err := factory.NewRequestInfo(&http.Request{Method: method, URL: parsed})
		if err != nil {
			fmt.Println("null")
			continue
		}
		long := verbs.Has(info.Verb) ||
			(info.IsResourceRequest && subresources.Has(info.Subresource)) ||
			(!info.IsResourceRequest && strings.HasPrefix(info.Path, "/debug/pprof/"))
		parts := append([]string{}, info.Parts...)
		row, _ := json.Marshal([]any{info.IsResourceRequest, info.Path, info.Verb, info.APIPrefix, info.APIGroup, info.APIVersion,
			info.Namespace, info.Resource, info.Subresource, info.Name, parts, long})
		fmt.Println(string(row))
	}
}
