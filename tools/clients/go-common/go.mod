module millstream/tools/clients/go-common

go 1.26
